"""Echo Queue: a job is put into a queue, then polled until it is done, or stopped.

    POST   /queues/{queue}/jobs  {"message": …}   202 {"job": "7f3a"}
    GET    /jobs/{job}                            200 {"state": "waiting" | "done" | "failed" | "stopped", "echo": …}
    DELETE /jobs/{job}                            202 it will be stopped, 409 it is not waiting any more

A queue corresponds to a workflow. The routes above are the complete (fictitious) API.
"""

from __future__ import annotations

from providers.contract import (
    Call,
    CancelSteps,
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
    can_cancel = True
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

    def cancel(self, provider_run_id: str) -> CancelSteps:
        """Ask for the end of a job; its polls then report it."""
        return (yield from ask(Call("DELETE", f"/jobs/{segment(provider_run_id)}", "cancel", safe=True), _read_stop))


def _read_stop(reply: Reply) -> bool:
    if reply.status not in {202, 409}:
        raise refusal(reply)
    return reply.status == 202


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
        case {"state": "failed" | "stopped" as state}:
            return Outcome(succeeded=False, error=f"the job {'failed' if state == 'failed' else 'was stopped'}")
    raise invalid("the response has no state")
