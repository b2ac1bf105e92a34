"""Several streams over one network: each as if it were alone, their identities distinct."""

from tests.vis_core.system.test_driver import clips, frame, moving, run
from vis_core.system.option import Option


def test_another_stream_shares_the_network_and_answers_as_one_alone_does():
    one = clips(3, 1)
    run(one, moving(4))
    other = one.another()
    assert other.network is one.network
    frames = [frame(i, (80, (2 * i) % 5)) for i in range(5)]
    mixed = []
    for mine, its in zip(moving(5), frames):
        one.step(mine)
        mixed += other.step(its)
    mixed += other.flush()
    alone = run(clips(3, 1), frames)
    assert [x.masks for x in mixed] == [x.masks for x in alone]
    assert [x.states.tolist() for x in mixed] == [x.states.tolist() for x in alone]


def test_streams_over_one_network_never_give_the_same_track_id():
    one = clips(1)
    other = one.another()
    third = other.another()
    streams = (one, other, third)
    ids = [set() for _ in streams]
    for i in range(6):  # nothing is continued: each frame begins two tracks
        for stream, mine in zip(streams, ids):
            (answer,) = stream.step(frame(i, (50, 0), (200, 8)))
            mine.update(answer.track_ids.tolist())
    assert sum(map(len, ids)) == len(set.union(*ids)) == 36


def test_another_stream_ends_tracks_by_the_same_limits_and_has_the_same_options():
    one = clips(1, max_lost_frames=7)
    one.max_lost_seconds = 2.5
    one.options = {"hidden": Option("a value", 0, 255, live=True, default=0)}
    other = one.another()
    assert (other.lifecycle.max_lost_frames, other.max_lost_seconds) == (7, 2.5)
    other.set_option("hidden", 50)
    assert (one.model.hidden, other.model.hidden) == (None, 50)
