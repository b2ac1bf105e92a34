"""The campaign as a test; to try it with fewer images: python -m tests.campaign.scenario --images 400."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from tests.campaign import scenario
from tests.campaign.bookkeeping import NothingToldError


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_in_a_long_life_of_faults_every_image_is_accounted_for_and_nothing_grows_or_is_left():
    try:
        assert scenario.run(scenario.IMAGES) == []
    except NothingToldError as error:
        pytest.skip(str(error))
