"""What is said of a service: a unit of the service manager."""

from holdfast_wire.declaration import BOOL, FLOAT, INT, STR, EventType, Fact, Origin, ResourceKind, facts

FACTS: list[Fact] = [
    *facts(
        ResourceKind.SERVICE,
        Origin.AGENT,
        [
            ("description", STR, "", "", "The unit's own description."),
            ("up", BOOL, "", "m", "The service is active; while it starts or reloads, too."),
            ("failed", BOOL, "", "m", "The service is in the failed state."),
            ("active_state", STR, "", "", "systemd's ActiveState, or Windows' service state."),
            ("sub_state", STR, "", "", "systemd's SubState."),
            (
                "result",
                STR,
                "",
                "",
                "systemd's Result of the newest run: success, exit-code, signal, oom-kill, …",
            ),
            ("exit_status", INT, "", "", "The main process's exit status, or the signal that ended it."),
            ("enabled", BOOL, "", "", "The service is meant to start at boot."),
            ("main_pid", INT, "", "", "The main process; 0 when there is none."),
            (
                "restarts_total",
                INT,
                "",
                "c",
                "Automatic restarts since the unit was loaded (systemd's NRestarts).",
            ),
            (
                "start_timestamp_seconds",
                FLOAT,
                "seconds",
                "m",
                "When the service last became active, Unix time; 0 if never.",
            ),
            (
                "oom_kills_total",
                INT,
                "",
                "c",
                "Processes of its control group that the kernel killed for want of memory since it was started.",
            ),
            (
                "oom_score_adj",
                INT,
                "",
                "",
                "How the kernel chooses when memory is short: -1000 never this one, 1000 this one first.",
            ),
            ("restart_looping", BOOL, "", "", "systemd is waiting to start the service again."),
            ("start_limit_hit", BOOL, "", "m", "systemd has given up starting the service."),
            ("stateful", BOOL, "", "m", "The service keeps data, a log of changes or keys that must last."),
            ("engine", STR, "", "l", "The database or broker the service runs, where it is a known one."),
            ("state_paths", INT, "", "m", "Paths the service is known to keep state in."),
            (
                "state_paths_unresolved",
                INT,
                "",
                "m",
                "Those whose state must last, but whose filesystem could not be found out.",
            ),
            (
                "state_unresolved",
                STR,
                "",
                "",
                "Why they could not, and what would change it; empty when all are known.",
            ),
            (
                "state_denied",
                BOOL,
                "",
                "m",
                "They could not because the agent may not look into the service's processes, and for no other reason.",
            ),
            ("syncs_disabled", BOOL, "", "m", "The service runs so that its fsync calls do nothing."),
            ("syncs_disabled_by", STR, "", "", "What turns them off; empty when nothing does."),
            (
                "needs_daemon_reload",
                BOOL,
                "",
                "",
                "The unit's file has changed since systemd read it: the next start may be another one.",
            ),
        ],
    ),
    *facts(
        ResourceKind.SERVICE,
        Origin.COLLECTOR,
        [
            (
                "verdict",
                STR,
                "",
                "",
                "What is said of the service: the worst of its state paths: durable, unknown, at_risk, not_durable or lost.",
            ),
        ],
    ),
]
EVENTS: tuple[EventType, ...] = (
    EventType(
        name="unit_failed",
        resource=ResourceKind.SERVICE,
        help="A unit entered the failed state; the fields carry systemd's result and the exit status.",
    ),
    EventType(
        name="unit_restarted",
        resource=ResourceKind.SERVICE,
        help="systemd started a unit again after it ended unexpectedly.",
    ),
    EventType(
        name="unit_oom_kill",
        resource=ResourceKind.SERVICE,
        help="A unit ended because the kernel killed one of its processes for want of memory.",
    ),
)
