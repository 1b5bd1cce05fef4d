"""A batch that is sent again to a sidecar that cannot know what has run."""

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, reasons
from tests.support.works import DictStore, Works, to

from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine import remembered

CALLS = [to("write", "a"), to("read", "b")]


async def refusal(b: Bench, **options: str) -> Rejection:
    with pytest.raises(Rejection) as caught:
        await b.run(CALLS, **options)
    return caught.value


@pytest.mark.parametrize("request_id", ["r", ""])
async def test_what_another_instance_may_have_run_is_refused(request_id: str) -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        refused = await refusal(b, request_id=request_id, sent_to_instance="another")
        assert refused.reason is RejectionReason.REQUEST_FORGOTTEN
        assert (refused.field, refused.retry_after_s) == ("sent_to_instance", None)
        assert "may have run" in refused.message
        assert works.started == []
        b.assert_idle()
        assert reasons(await b.run(CALLS, request_id="r")) == ["OK", "OK"], "it left nothing"


async def test_a_request_that_is_known_is_served_whatever_the_instance() -> None:
    works = Works("b")
    async with bench(*works.tools()) as b:
        first = await b.start(CALLS, request_id="r")
        second = await b.start(CALLS, request_id="r", sent_to_instance="another")
        works.open("a")
        await settle()
        assert reasons(first.calls()) == reasons(second.calls()) == ["OK", "OK"]
        third = await b.run(CALLS, request_id="r", sent_to_instance="another")
        assert [call.replayed for call in third] == [True, True]
        refused = await refusal(b, request_id="r", identity="x", sent_to_instance="another")
        assert refused.reason is RejectionReason.REQUEST_FORGOTTEN, "another client's is not known"
    assert works.started.count("a") == 1


async def test_the_instance_that_it_was_sent_to_runs_what_it_never_saw() -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        again = await b.run(CALLS, request_id="r", sent_to_instance=b.engine.instance_id)
        assert reasons(again) == ["OK", "OK"]


async def test_a_store_knows_what_other_instances_have_run() -> None:
    works, store = Works("a", "b"), DictStore()
    async with bench(*works.tools(), store=store) as b:
        before = b.engine.instance_id
        await b.run(CALLS, request_id="r")
    async with bench(*works.tools(), store=store) as b:
        assert b.engine.instance_id != before
        again = await b.run(CALLS, request_id="r", sent_to_instance=before)
        assert [call.replayed for call in again] == [True, True]
        unseen = await b.run(CALLS, request_id="new", sent_to_instance=before)
        assert reasons(unseen) == ["OK", "OK"]
    assert works.counts == {"a": 2, "b": 2}


@pytest.mark.parametrize("durable", [False, True])
async def test_what_this_instance_has_forgotten_is_refused(durable: bool) -> None:
    works = Works("a", "b")
    store = DictStore() if durable else None
    async with bench(*works.tools(), store=store) as b:
        here = b.engine.instance_id
        await b.run(CALLS, request_id="r")
        await b.clock.advance(601.0)
        if store is not None:
            store.committed.clear()
        refused = await refusal(b, request_id="r", sent_to_instance=here)
        assert refused.reason is RejectionReason.REQUEST_FORGOTTEN
        assert "no longer" in refused.message
        assert works.counts == {"a": 1, "b": 1}
        b.assert_idle()
        unseen = await b.run(CALLS, request_id="other", sent_to_instance=here)
        assert reasons(unseen) == ["OK", "OK"], "a first send that never arrived"
        again = await b.run(CALLS, request_id="r")
        assert reasons(again) == ["OK", "OK"], "who says that it is new makes it new"


async def test_what_may_run_again_runs_when_it_was_forgotten() -> None:
    works = Works("a")
    calls = [to("read", "a"), to("put", "a")]
    async with bench(*works.tools()) as b:
        await b.run(calls, request_id="r")
        await b.clock.advance(601.0)
        again = await b.run(calls, request_id="r", sent_to_instance=b.engine.instance_id)
        assert reasons(again) == ["OK", "OK"]


async def test_the_requests_that_are_known_to_be_forgotten_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remembered, "_MAX_FORGOTTEN", 2)
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        here = b.engine.instance_id
        for name in ("first", "second", "third"):
            await b.run(CALLS, request_id=name)
        await b.clock.advance(601.0)
        await b.run(CALLS, request_id="new")
        for name in ("second", "third"):
            refused = await refusal(b, request_id=name, sent_to_instance=here)
            assert refused.reason is RejectionReason.REQUEST_FORGOTTEN
        assert reasons(await b.run(CALLS, request_id="first", sent_to_instance=here)) == ["OK"] * 2
