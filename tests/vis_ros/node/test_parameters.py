from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vis_core.catalog import SYSTEMS
from vis_core.errors import OptionError
from vis_core.system.option import Option
from vis_ros.node import parameters

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_default_passes_its_own_check_on_the_way_through_ros(system):
    for name, option in parameters.all_parameters(system).items():
        assert parameters.check(name, option, parameters.to_ros(option, option.default)) == option.default


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_option_of_a_system_has_the_name_of_a_parameter_of_the_node(system):
    assert not set(parameters.node_parameters()) & set(parameters.system_parameters(system))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_shipped_file_holds_every_parameter_at_its_default(system):
    path = REPOSITORY / "config" / f"{system}.yaml"
    assert path.read_text() == parameters.parameters_file(system) + "\n", (
        f"python -m vis_ros.node.parameters {system} > {path}"
    )
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    expected = {name: parameters.default_of(option) for name, option in parameters.all_parameters(system).items()}
    assert values == {**expected, "system": system}


def test_the_documentation_holds_the_table_of_parameters():
    path = REPOSITORY / "docs" / "parameters.md"
    assert path.read_text() == parameters.documentation() + "\n", f"python -m vis_ros.node.parameters > {path}"


def test_the_table_has_a_row_for_every_parameter():
    rows = parameters.parameters_table().splitlines()[2:]
    names = [row.split("|")[1].strip(" `") for row in rows]
    expected = list(parameters.node_parameters())
    for system in SYSTEMS:
        expected += list(parameters.system_parameters(system))
    assert names == expected


def test_zero_means_without_a_bound_where_an_option_may_be_none():
    option = Option("frames", minimum=2, default=6, optional=True)
    assert parameters.check("memory_frames", option, 0) is None
    assert parameters.check("memory_frames", option, 3) == 3
    assert parameters.to_ros(option, None) == 0
    with pytest.raises(OptionError, match=r"memory_frames: 1 is not in \[2"):
        parameters.check("memory_frames", option, 1)


def test_minus_one_means_without_a_bound_where_zero_is_a_value():
    option = Option("frames", minimum=0, default=30, optional=True)
    assert parameters.check("max_lost_frames", option, -1) is None
    assert parameters.check("max_lost_frames", option, 0) == 0
    assert parameters.to_ros(option, None) == -1


def test_arrays_become_tuples_of_the_right_length():
    option = Option("size", multiple_of=16, default=(352, 624))
    assert parameters.check("input_size", option, [64, 96]) == (64, 96)
    with pytest.raises(OptionError, match="expected 2 values"):
        parameters.check("input_size", option, [64])


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        (Option("", minimum=2, maximum=9, default=6), 2, 9),
        (Option("", minimum=2, maximum=9, optional=True, default=6), 0, 9),
        (Option("", minimum=0, maximum=9, optional=True, default=6), -1, 9),
        (Option("", minimum=2, default=6), 2, 2**63 - 1),
        (Option("", maximum=9, default=6), -(2**63), 9),
        (Option("", minimum=0, maximum=1, default=0.5), 0.0, 1.0),
    ],
)
def test_descriptors_carry_the_range(option, low, high):
    pytest.importorskip("rcl_interfaces.msg", reason="needs the ROS 2 wheels or a sourced ROS 2")
    described = parameters.descriptor("name", option)
    (bounds,) = [*described.integer_range, *described.floating_point_range]
    assert (bounds.from_value, bounds.to_value) == (low, high)
    assert type(bounds.from_value) is type(option.default)


def test_descriptors_carry_meaning_and_choices():
    pytest.importorskip("rcl_interfaces.msg", reason="needs the ROS 2 wheels or a sourced ROS 2")
    table = parameters.node_parameters()
    described = parameters.descriptor("drop_policy", table["drop_policy"])
    assert described.description == table["drop_policy"].description
    assert described.additional_constraints == "latest, every_frame"
    assert not described.read_only
    assert parameters.descriptor("system", table["system"]).read_only
