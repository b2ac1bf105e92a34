import runpy
from pathlib import Path

import numpy as np
import pytest

from vis_core.data.synthetic_depth import Solid, depth_video
from vis_core.spatial.measurement import Measurement, measure, metres
from vis_core.spatial.tracks import Pose, SpatialTracks
from vis_core.structures import TrackState

TRACKED, LOST, ENDED = TrackState.TRACKED, TrackState.LOST, TrackState.ENDED
SECOND = 1_000_000_000
SOLIDS = (
    Solid("ball", (0.5, 0.5, 0.5), (-0.6, 0.3, 3.0), (0.4, 0.0, 0.0)),
    Solid("box", (0.5, 0.8, 0.5), (0.7, 0.4, 3.2), (-0.2, 0.0, 0.3), yaw=0.5, turn=0.6),
)


def seen(position, deviation=0.01):
    corners = np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-0.4, 0.4) for z in (-0.2, 0.2)])
    return Measurement(
        np.asarray(position, float), np.eye(3) * deviation**2, (corners + position).astype(np.float32), True
    )


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_position_and_velocity_of_moving_objects_are_known_after_ten_frames(noise):
    video = depth_video(SOLIDS, 30)
    random = np.random.default_rng(0)
    tracks = SpatialTracks(upright=1)
    for t in range(len(video)):
        depth = metres(video.depth[t] + random.normal(0, 1, video.depth[t].shape).astype(np.float32) * noise)
        measurements = {i + 7: measure(video.mask(t, i), depth, video.camera) for i in range(2)}
        found = tracks.step(int(video.stamps[t]), dict.fromkeys(measurements, TRACKED), measurements, Pose.none())
        assert [track.track_id for track in found] == [7, 8]
        for i, track in enumerate(found):
            assert np.linalg.norm(track.position - video.positions[t, i]) < 0.03
            assert track.measured
            if t >= 10:
                assert np.linalg.norm(track.velocity - video.velocities[i]) < 0.1
    assert np.allclose(found[0].size, 0.5, atol=0.05)
    assert found[0].footprint.shape[1] == 2 and 3 <= len(found[0].footprint) <= 16
    assert np.allclose(found[0].footprint.mean(0), found[0].position[[0, 2]], atol=0.05)


def test_a_lost_track_goes_on_as_it_went_and_is_less_and_less_sure():
    tracks = SpatialTracks()
    for t in range(10):
        tracks.step(t * SECOND // 10, {1: TRACKED}, {1: seen([0.1 * t, 0, 3])}, Pose.none())
    uncertain = []
    for t in range(10, 15):
        (track,) = tracks.step(t * SECOND // 10, {1: LOST}, {}, Pose.none())
        assert not track.measured and track.state == LOST
        assert np.allclose(track.position, [0.1 * t, 0, 3], atol=0.02)
        uncertain.append(np.trace(track.covariance[:3, :3]))
    assert uncertain == sorted(uncertain) and uncertain[-1] > 2 * uncertain[0]
    (track,) = tracks.step(15 * SECOND // 10, {1: TRACKED}, {1: seen([1.5, 0, 3])}, Pose.none())
    assert track.measured and np.trace(track.covariance[:3, :3]) < uncertain[0]


def test_a_track_that_ends_is_told_once_and_forgotten():
    tracks = SpatialTracks()
    tracks.step(0, {1: TRACKED, 2: TRACKED}, {1: seen([0, 0, 3]), 2: seen([1, 0, 3])}, Pose.none())
    assert [track.track_id for track in tracks.step(SECOND, {1: ENDED, 2: TRACKED}, {}, Pose.none())] == [1, 2]
    assert [track.track_id for track in tracks.step(2 * SECOND, {2: TRACKED}, {}, Pose.none())] == [2]
    assert len(tracks) == 1
    tracks.step(3 * SECOND, {}, {}, Pose.none())
    assert len(tracks) == 0


def test_a_track_that_was_never_measured_is_nowhere():
    tracks = SpatialTracks()
    assert tracks.step(0, {1: TRACKED}, {}, Pose.none()) == []


def test_one_wild_measurement_is_not_believed_and_several_are():
    tracks = SpatialTracks()
    for t in range(10):
        tracks.step(t * SECOND // 10, {1: TRACKED}, {1: seen([0, 0, 3])}, Pose.none())
    (track,) = tracks.step(SECOND, {1: TRACKED}, {1: seen([0, 0, 7])}, Pose.none())
    assert abs(track.position[2] - 3) < 0.05 and not track.measured
    for t in range(11, 13):
        (track,) = tracks.step(t * SECOND // 10, {1: TRACKED}, {1: seen([0, 0, 7])}, Pose.none())
    assert abs(track.position[2] - 7) < 0.05 and track.measured


def test_the_size_of_what_is_hidden_is_that_known_before():
    tracks = SpatialTracks()
    (before,) = tracks.step(0, {1: TRACKED}, {1: seen([0, 0, 3])}, Pose.none())
    part = seen([0, 0, 3])
    part = Measurement(part.position, part.covariance, part.points[:4], False)
    (after,) = tracks.step(SECOND, {1: TRACKED}, {1: part}, Pose.none())
    assert np.array_equal(before.size, after.size) and np.allclose(before.size, [0.4, 0.8, 0.4])


def test_tracks_stand_in_the_frame_of_reference_of_a_camera_that_moves():
    # An optical frame on a robot that drives ahead: z forward is the map's x, x right is its -y, y down its -z.
    half = np.sqrt(0.5)
    tracks = SpatialTracks()
    for t in range(20):
        pose = Pose.from_quaternion([0.5 * t / 10, 2.0, 1.0], np.array([-0.5, 0.5, -0.5, 0.5]))
        assert np.allclose(pose.rotation @ [0, 0, 1], [1, 0, 0]) and np.allclose(pose.rotation @ [1, 0, 0], [0, -1, 0])
        ahead = 4 - 0.5 * t / 10  # stands still in the map
        (track,) = tracks.step(t * SECOND // 10, {1: TRACKED}, {1: seen([0.3, 0.6, ahead])}, pose)
    assert np.allclose(track.position, [4, 1.7, 0.4], atol=0.01)
    assert np.allclose(track.velocity, 0, atol=0.05)
    assert np.allclose(track.size, [0.4, 0.4, 0.8]) and np.allclose(track.footprint.mean(0), [4, 1.7], atol=0.02)
    assert np.allclose(Pose.from_quaternion([0, 0, 0], [0, 0, half, half]).rotation @ [1, 0, 0], [0, 1, 0])


def test_the_example_of_a_whole_scene_stays_near_the_truth(tmp_path, capsys):
    program = runpy.run_path(str(Path(__file__).resolve().parents[3] / "examples" / "tracks_in_space.py"))
    program["main"](str(tmp_path / "scene.png"))
    off = [float(line.split()[-5]) for line in capsys.readouterr().out.splitlines()]
    assert len(off) == 3 and max(off) < 4
    assert (tmp_path / "scene.png").stat().st_size > 10_000
