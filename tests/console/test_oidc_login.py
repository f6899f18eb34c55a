"""Log-in through an OpenID Connect provider in a browser."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.conftest import Console, browser, chromium_path
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import closed_port
from tests.support.login_issuer import CLIENT_ID, CLIENT_SECRET, LoginIssuer

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway


async def test_an_operator_logs_in_and_out(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    """The cookie of the session arrives although another site has sent the browser; the policy of the page is kept."""
    chromium_path()
    with closed_port() as url:
        port = int(url.rpartition(":")[2])
    async with LoginIssuer(now=time.time) as issuer, browser() as started:
        login: JsonValue = {
            "issuer": "corp",
            "client_id": CLIENT_ID,
            "client_secret": {"env": "LOGIN_SECRET"},
            "url": f"http://localhost:{port}",
            "roles": {"claim": "groups", "operator": ["platform"], "viewer": ["team"]},
        }
        running = await gateway(
            gateway_config(
                url,
                url,
                server={"ops_port": port},
                issuers={"corp": {"url": issuer.url}},
                console={"login": login},
            ),
            {**PROVIDER_SECRETS, "LOGIN_SECRET": CLIENT_SECRET},
        )
        console = Console(started, running, session)
        page = await console.open("/providers")
        await expect(page.get_by_label("Operations key")).to_have_count(0)
        await page.get_by_role("link", name="Log in with corp").click()
        await page.get_by_role("link", name="I am ada").click()
        await expect(page.get_by_role("alert")).to_contain_text("Your account has no role in this console.")
        issuer.person["groups"] = ["team"]
        await page.get_by_role("link", name="Log in with corp").click()
        await page.get_by_role("link", name="I am ada").click()
        await expect(page.get_by_text("corp:ada, viewer")).to_be_visible()
        assert page.url.startswith(f"http://localhost:{port}/console/")
        cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(f"http://localhost:{port}")}
        assert {"runward_session"} == set(cookies)
        assert (True, "Strict") == (cookies["runward_session"]["httpOnly"], cookies["runward_session"]["sameSite"])
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("link", name="Log in with corp")).to_be_visible()
        assert [] == console.errors
        assert "console_login_refused" in running.stdout
        assert CLIENT_SECRET not in running.stdout
