"""A server that the user named by URL: used, and never stopped."""

from tools.stack.options import ServiceKind, StackError, StackUnreachable
from tools.stack.probes import answers, without_password
from tools.stack.service import Service


class GivenService(Service):
    """Someone else's server."""

    def __init__(self, *, name: str, url: str, management_url: str | None = None) -> None:
        super().__init__(name=name, kind=ServiceKind.URL)
        self._url = url
        self._management_url = management_url

    @property
    def url(self) -> str:
        return self._url

    @property
    def version(self) -> str:
        return ""

    @property
    def management_url(self) -> str | None:
        return self._management_url

    @property
    def alive(self) -> bool:
        return self.answers()

    def answers(self) -> bool:
        return answers(self.name, self._url)

    def start(self, *, keep_ports: bool = True) -> None:  # noqa: ARG002  # has no port of ours
        if not self.answers():
            raise StackUnreachable(
                f"{self.name}: {without_password(self._url)} was given, but does not answer"
            )

    def stop(self, *, graceful: bool = True) -> None:  # noqa: ARG002  # either way not ours
        self._refuse("stop")

    def kill(self) -> None:
        self._refuse("kill")

    def pause(self) -> None:
        self._refuse("pause")

    def resume(self) -> None:
        self._refuse("resume")

    def _refuse(self, deed: str) -> None:
        raise StackError(f"{self.name} at {without_password(self._url)} is not ours to {deed}")
