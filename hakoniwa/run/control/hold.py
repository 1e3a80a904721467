"""A held container as its supervisor has it: all is set up, and its program waits for `hako release`."""

from __future__ import annotations

import threading

from hakoniwa.errors import HakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.run.control.messages import Answer
    from hakoniwa.run.control.requests import Requests
    from hakoniwa.run.life import Life

_MOMENT = 1.0  # seconds for an answer to be sent, before this process ends


class Hold:
    """What a release does. Who asks for it is answered once the program runs, or is known not to."""

    def __init__(self, life: Life, requests: Requests) -> None:
        self._life = life
        self._requests = requests
        self._over = threading.Event()
        self._error: HakoError | None = None
        self._releasing: threading.Thread | None = None
        requests.answer("release", self._answer)

    def _answer(self) -> Answer:
        from hakoniwa.run.control.messages import Answer

        thread = threading.current_thread()
        self._requests.call(lambda: self._release(thread))
        self._over.wait()
        if self._error is not None:
            raise self._error
        return Answer()

    def _release(self, asking: threading.Thread) -> None:
        """Have the first process go on; called by the main thread."""
        payload = self._life.the_payload()
        if not payload.held or payload.asked_to_end:
            what = "is being ended" if payload.asked_to_end else "was released already"
            raise HakoError(f"container {self._life.container.name!r} is not held any more: it {what}")
        self._releasing = asking
        self._life.status = "running"
        payload.release()

    def end(self, error: HakoError | None) -> None:
        """Tell who has released it that the program runs, or why it does not."""
        self._error = error
        self._over.set()
        if error is not None and self._releasing is not None:
            self._releasing.join(_MOMENT)
