from __future__ import annotations

import threading

import pytest

from vis_ros.node.mailbox import Mailbox, take_oldest


def take(mailbox):
    taken = take_oldest([mailbox])
    return None if taken is None else taken[1]


def test_one_slot_keeps_the_newest_and_counts_what_it_replaced():
    mailbox: Mailbox[int] = Mailbox()
    for item in range(5):
        mailbox.put(item)
    assert take(mailbox) == 4
    assert mailbox.counts == (5, 4)


def test_a_queue_keeps_order_and_drops_its_oldest_when_full():
    mailbox: Mailbox[int] = Mailbox(3)
    for item in range(5):
        mailbox.put(item)
    assert [take(mailbox) for _ in range(3)] == [2, 3, 4]
    assert mailbox.counts == (5, 2)


def test_take_waits_for_an_item():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(take(mailbox)))
    thread.start()
    mailbox.put("frame")
    thread.join(10)
    assert taken == ["frame"]


def test_close_wakes_who_waits_and_lets_go_of_what_is_left():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = ["unset"]
    thread = threading.Thread(target=lambda: taken.append(take(mailbox)))
    thread.start()
    mailbox.close()
    thread.join(10)
    assert taken == ["unset", None]
    mailbox.put("late")
    assert take(mailbox) is None
    assert mailbox.counts == (0, 0)


def test_nothing_is_lost_between_a_fast_writer_and_a_patient_reader():
    mailbox: Mailbox[int] = Mailbox(10_000)
    writer = threading.Thread(target=lambda: [mailbox.put(item) for item in range(10_000)])
    writer.start()
    assert [take(mailbox) for _ in range(10_000)] == list(range(10_000))
    writer.join(10)
    assert mailbox.counts == (10_000, 0)


def test_a_queue_holds_no_more_than_its_limit_but_always_the_newest():
    mailbox: Mailbox[int] = Mailbox(100, limit=10, size=float)
    for item in (4, 5, 3, 2):
        mailbox.put(item)
    assert mailbox.counts == (4, 1)
    assert [take(mailbox) for _ in range(3)] == [5, 3, 2]
    for item in (7, 20):
        mailbox.put(item)
    assert mailbox.counts == (6, 2)
    assert take(mailbox) == 20


def together(*capacities: int) -> list[Mailbox[str]]:
    changed = threading.Condition()
    return [Mailbox(capacity, changed=changed) for capacity in capacities]


def test_of_several_mailboxes_the_item_that_waits_longest_is_taken():
    front, left = mailboxes = together(10, 10)
    for mailbox, item in ((left, "a"), (front, "b"), (front, "c"), (left, "d")):
        mailbox.put(item)
    assert [take_oldest(mailboxes) for _ in range(4)] == [(1, "a"), (0, "b"), (0, "c"), (1, "d")]


@pytest.mark.parametrize("capacity", [1, 3])
def test_one_who_puts_often_and_one_who_seldom_does_are_both_served(capacity):
    fast, slow = mailboxes = together(capacity, capacity)
    served = []
    for _ in range(20):
        for mailbox in (fast, slow, fast, fast):
            mailbox.put("image")
        served.append(take_oldest(mailboxes)[0])
    assert min(served.count(0), served.count(1)) >= 5
    assert fast.counts[1] > slow.counts[1]


def test_several_mailboxes_wake_one_who_waits_and_end_with_any_of_them():
    mailboxes = together(1, 1)
    taken = []
    thread = threading.Thread(target=lambda: [taken.append(take_oldest(mailboxes)) for _ in range(2)])
    thread.start()
    mailboxes[1].put("image")
    while not taken and thread.is_alive():
        thread.join(0.01)
    mailboxes[0].close()
    thread.join(10)
    assert taken == [(1, "image"), None]
