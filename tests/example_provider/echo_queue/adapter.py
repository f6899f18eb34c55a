"""Echo Queue: a job is put into a queue, then polled until it is done.

    POST /queues/{queue}/jobs  {"message": …}   202 {"job": "7f3a"}
    GET  /jobs/{job}                            200 {"state": "waiting" | "done" | "failed", "echo": …}

A queue corresponds to a workflow. The routes above are the complete (fictitious) API.
"""

from __future__ import annotations

from providers.contract import (
    Call,
    KeyHeader,
    Outcome,
    Pause,
    Reply,
    Run,
    Steps,
    ask,
    invalid,
    refusal,
    segment,
)


class EchoQueue:
    """Adapter of Echo Queue; it has no dialects."""

    base_url = "https://api.echo-queue.example"
    key_header = KeyHeader("X-Queue-Key")
    supports_versions = False
    supports_nodes = False
    starts = ("POST /queues/*/jobs",)
    dialects: tuple[str, ...] = ()

    def __init__(self, dialect: str | None = None) -> None:
        if dialect is not None:
            raise ValueError("Echo Queue has no dialects")

    def steps(self, run: Run) -> Steps:
        """Start the job, which is paid for, and follow it, which is free."""
        path = f"/queues/{segment(run.workflow)}/jobs"
        start = Call("POST", path, "start", safe=False, json={"message": dict(run.input)})
        job = yield from ask(start, _read_job)
        return (yield from self.follow(job))

    def follow(self, provider_run_id: str) -> Steps:
        """Poll a job until it is done."""
        poll = Call("GET", f"/jobs/{segment(provider_run_id)}", "poll", safe=True)
        while True:
            yield Pause(provider_run_id)
            outcome = yield from ask(poll, _read_state)
            if outcome is not None:
                return outcome


def _read_job(reply: Reply) -> str:
    if reply.status != 202:
        raise refusal(reply)
    job = reply.body.get("job") if isinstance(reply.body, dict) else None
    if not isinstance(job, str) or job in {"", ".", ".."}:
        raise invalid("the response names no job")
    return job


def _read_state(reply: Reply) -> Outcome | None:
    if reply.status != 200:
        raise refusal(reply)
    match reply.body:
        case {"state": "waiting"}:
            return None
        case {"state": "done", "echo": echo}:
            return Outcome(succeeded=True, output=echo)
        case {"state": "failed"}:
            return Outcome(succeeded=False, error="the job failed")
    raise invalid("the response has no state")
