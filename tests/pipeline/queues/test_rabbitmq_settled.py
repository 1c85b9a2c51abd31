"""What is remembered of settled messages, over connections and processes."""

from __future__ import annotations

from pathlib import Path

from pipeline.queues.rabbitmq.settled import REMEMBERED, SettledNotes, key


def settled(path: Path | None) -> tuple[SettledNotes, list[str]]:
    said: list[str] = []
    notes = SettledNotes(path, lambda kind, text: said.append(f"{kind}: {text}"))
    notes.open()
    return notes, said


def test_a_note_outlives_the_process(tmp_path: Path) -> None:
    """Without being closed: it is written when `add` returns."""
    settled(tmp_path / "settled")[0].add(key("1", b"m"))
    again = settled(tmp_path / "settled")[0]
    assert again.again(key("1", b"m"), redelivered=True)
    assert not again.again(key("1", b"n"), redelivered=True)
    assert not again.again(key("2", b"m"), redelivered=True)


def test_what_was_settled_over_this_connection_cannot_come_again() -> None:
    """But after the next loss; once over each connection, since that acknowledgement may be lost too."""
    notes, _ = settled(None)
    notes.add(key("1", b"m"))
    assert not notes.again(key("1", b"m"), redelivered=True)
    for _ in range(3):
        notes.lost()
        assert notes.again(key("1", b"m"), redelivered=True)
        assert not notes.again(key("1", b"m"), redelivered=True)


def test_what_is_new_or_has_no_id_is_sent() -> None:
    """The broker's mark is missing on what nobody was sent; equal bodies may be two messages."""
    notes, _ = settled(None)
    notes.add(key("1", b"m"))
    notes.add(key(None, b"m"))
    notes.lost()
    assert not notes.again(key("1", b"m"), redelivered=False)
    assert not notes.again(key(None, b"m"), redelivered=True)


def test_what_we_have_published_ourselves_has_an_id_of_its_own() -> None:
    """So it is known over the same connection, too, and without the mark: a delay that ended twice."""
    notes, _ = settled(None)
    assert not notes.again(key("1", b"m"), redelivered=False, ours=True)
    notes.add(key("1", b"m"))
    assert notes.again(key("1", b"m"), redelivered=False, ours=True)
    assert notes.again(key("1", b"m"), redelivered=False, ours=True)


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    """REMEMBERED are kept, in memory and in the file, also over a restart in the middle of the ring."""
    path = tmp_path / "settled"
    for begin, end in ((0, REMEMBERED - 5), (REMEMBERED - 5, REMEMBERED + 10)):
        notes, _ = settled(path)
        for number in range(begin, end):
            notes.add(key(str(number), b""))
    notes, _ = settled(path)
    assert not any(notes.again(key(str(number), b""), redelivered=True) for number in range(10))
    assert notes.again(key("10", b""), redelivered=True)
    assert notes.again(key(str(REMEMBERED + 9), b""), redelivered=True)
    assert path.stat().st_size == REMEMBERED * 24


def test_a_spoilt_file_is_no_harm(tmp_path: Path) -> None:
    """It is read as far as it makes sense, and written over."""
    path = tmp_path / "settled"
    path.write_bytes(b"\xff" * 1000)
    notes, said = settled(path)
    notes.add(key("1", b"m"))
    assert settled(path)[0].again(key("1", b"m"), redelivered=True)
    assert said == []


def test_where_it_cannot_be_written_it_is_said_once(tmp_path: Path) -> None:
    """And this process still remembers."""
    notes, said = settled(tmp_path / "no folder" / "settled")
    notes.open()
    for number in range(3):
        notes.add(key(str(number), b"m"))
    notes.lost()
    assert notes.again(key("1", b"m"), redelivered=True)
    assert len(said) == 1
    assert "settled" in said[0]


def test_what_could_not_be_written_is_written_once_it_can_be(tmp_path: Path) -> None:
    """K11: a disk that was full for a moment; a fault while it lasts, tried again once a minute."""
    now, said = 0.0, list[str]()
    notes = SettledNotes(tmp_path / "folder" / "settled", lambda kind, text: said.append(kind), lambda: now)
    notes.open()
    notes.add(key("1", b"m"))
    assert notes.trouble is not None
    (tmp_path / "folder").mkdir()
    notes.add(key("2", b"m"))
    assert notes.trouble is not None
    now = 61.0
    notes.add(key("3", b"m"))
    assert (notes.trouble, said) == (None, ["settled-unwritten", "settled-written"])
    again, _ = settled(tmp_path / "folder" / "settled")
    assert all(again.again(key(id, b"m"), redelivered=True) for id in "123")
