"""What happens to one link, while every other stands: between one process and one server."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from tools.chaos.faults.fault import BROKER_BACK_S, SceneFault, Strike
from tools.chaos.faults.network import slow, trouble_on
from tools.chaos.proxy import Proxy
from tools.chaos.ways import Server, Way

_LINKS: Final = tuple(way for way in Way if way.server is not Server.REDIS)
_TO_BROKER: Final = tuple(way for way in Way if way.server is Server.RABBITMQ)


def _each(
    ways: Sequence[Way], trouble: Callable[[Proxy], AbstractContextManager[object]]
) -> Mapping[str, Strike]:
    return {way.value: trouble_on([way], trouble) for way in ways}


FAULTS: Final = (
    SceneFault(
        name="link-cut",
        claim="one process without one server: the others go on, and no order is lost",
        targets=_each(_LINKS, Proxy.refusing),
        lasting_s=2.5,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="link-black-hole",
        claim="what both sides send is swallowed on a connection that stands: as good as cut",
        targets=_each(_LINKS, Proxy.swallowing),
        lasting_s=4.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="link-confirms-lost",
        claim="the server does all and nobody hears of it: done again, with one effect, in order",
        targets=_each(_LINKS, Proxy.swallowing_answers),
        lasting_s=3.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="link-half-open",
        claim="the server has given a connection up, and its client does not know",
        targets=_each(_LINKS, Proxy.half_open),
        lasting_s=4.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="link-silent",
        claim="nothing passes for a while, and then all of it: late is not lost, and not first",
        targets=_each(_TO_BROKER, Proxy.silent),
        lasting_s=3.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="link-slow",
        claim="one slow link delays its own process, and overtakes nothing",
        targets=_each(_TO_BROKER, slow),
        lasting_s=4.0,
    ),
)
