"""Debian's Chromium, driven by Playwright, as the tests of the pages and the pictures of them use it.

async with chromium.launched() as browser:
    page = await (await browser.new_context()).new_page()
"""

import base64
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Browser, Page, async_playwright

from hack.deadlines import scaled
from hack.site import Site

START_SECONDS = 60.0
LOGIN_SECONDS = 30.0
OPTIONS = (
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-background-networking",  # nobody but the pages asks anybody
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
)


def missing() -> str | None:
    """What is to be installed before it can run; None if nothing is."""
    return None if shutil.which("chromium") else "no chromium: install it (on Debian, chromium)"


def trusting(certificate: bytes) -> str:
    """The option by which it takes the holder of this certificate's key (PEM) for whom it says to be.

    What it ignores errors of by other means it neither caches nor holds secure.
    """
    key = x509.load_pem_x509_certificate(certificate).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"


@contextlib.asynccontextmanager
async def launched(options: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """A browser without a window, that ends with the context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*OPTIONS, *options],
            chromium_sandbox=os.geteuid() != 0,  # root has none
            timeout=scaled(START_SECONDS) * 1000,
        )
        try:
            yield browser
        finally:
            await browser.close()


async def log_in(page: Page, site: Site, person: str, path: str) -> None:
    """Open a page of the site as somebody who has not logged in yet, by the form of Keycloak or of our own issuer."""
    await page.goto(f"{site.url}{path}", timeout=scaled(LOGIN_SECONDS) * 1000)
    if site.realm is None:
        await page.fill("[name=user]", person)
    else:
        await page.fill("#username", person)
        await page.fill("#password", site.password)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{site.url}{path}", timeout=scaled(LOGIN_SECONDS) * 1000)
