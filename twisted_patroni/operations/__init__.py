"""Operations: what may be asked for, who could take over, how it is carried out and followed."""

from twisted_patroni.operations.book import (
    KEPT,
    MOST_UNFINISHED,
    RETRY_AFTER,
    BookFull,
    Key,
    KeyReused,
    OperationBook,
)
from twisted_patroni.operations.candidates import assessed, candidates
from twisted_patroni.operations.desk import Desk
from twisted_patroni.operations.judges import KEY_GRACE, EndingJudge, ScheduleJudge
from twisted_patroni.operations.model import ENDS, KINDS, Kind, Operation, Origin
from twisted_patroni.operations.prefer import BadHeader, Preferences, parse_key, parse_prefer
from twisted_patroni.operations.validation import (
    Action,
    FailoverRequest,
    Outcome,
    Refusal,
    parse_failover,
    parse_restart,
    parse_schedule,
)

__all__ = [
    "ENDS",
    "KEPT",
    "KEY_GRACE",
    "KINDS",
    "MOST_UNFINISHED",
    "RETRY_AFTER",
    "Action",
    "BadHeader",
    "BookFull",
    "Desk",
    "EndingJudge",
    "FailoverRequest",
    "Key",
    "KeyReused",
    "Kind",
    "Operation",
    "OperationBook",
    "Origin",
    "Outcome",
    "Preferences",
    "Refusal",
    "ScheduleJudge",
    "assessed",
    "candidates",
    "parse_failover",
    "parse_key",
    "parse_prefer",
    "parse_restart",
    "parse_schedule",
]
