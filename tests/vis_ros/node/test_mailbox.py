from __future__ import annotations

import threading

from vis_ros.node.mailbox import Mailbox


def test_one_slot_keeps_the_newest_and_counts_what_it_replaced():
    mailbox: Mailbox[int] = Mailbox()
    for item in range(5):
        mailbox.put(item)
    assert mailbox.take() == 4
    assert mailbox.counts == (5, 4)


def test_a_queue_keeps_order_and_drops_its_oldest_when_full():
    mailbox: Mailbox[int] = Mailbox(3)
    for item in range(5):
        mailbox.put(item)
    assert [mailbox.take() for _ in range(3)] == [2, 3, 4]
    assert mailbox.counts == (5, 2)


def test_take_waits_for_an_item():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.put("frame")
    thread.join(10)
    assert taken == ["frame"]


def test_close_wakes_who_waits_and_lets_go_of_what_is_left():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = ["unset"]
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(10)
    assert taken == ["unset", None]
    mailbox.put("late")
    assert mailbox.take() is None
    assert mailbox.counts == (0, 0)


def test_nothing_is_lost_between_a_fast_writer_and_a_patient_reader():
    mailbox: Mailbox[int] = Mailbox(10_000)
    writer = threading.Thread(target=lambda: [mailbox.put(item) for item in range(10_000)])
    writer.start()
    assert [mailbox.take() for _ in range(10_000)] == list(range(10_000))
    writer.join(10)
    assert mailbox.counts == (10_000, 0)


def test_a_queue_holds_no_more_than_its_limit_but_always_the_newest():
    mailbox: Mailbox[int] = Mailbox(100, limit=10, size=float)
    for item in (4, 5, 3, 2):
        mailbox.put(item)
    assert mailbox.counts == (4, 1)
    assert [mailbox.take() for _ in range(3)] == [5, 3, 2]
    for item in (7, 20):
        mailbox.put(item)
    assert mailbox.counts == (6, 2)
    assert mailbox.take() == 20
