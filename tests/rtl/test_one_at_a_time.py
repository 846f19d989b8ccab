import threading
from pathlib import Path

from bitwright.rtl.toolchain import one_at_a_time


def test_of_many_that_want_the_same_one_makes_it(tmp_path: Path) -> None:
    kept, made = tmp_path / "thing", []

    def ask() -> None:
        with one_at_a_time(kept):
            if not kept.exists():
                made.append(1)
                kept.write_text("made")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_one_that_fails_lets_the_next_try(tmp_path: Path) -> None:
    for _ in range(2):
        try:
            with one_at_a_time(tmp_path / "thing"):
                raise RuntimeError
        except RuntimeError:
            continue
    with one_at_a_time(tmp_path / "thing"):
        pass
    assert not list(tmp_path.iterdir())
