"""The page that says whether the books are right, and has them verified."""

from uuid import UUID

from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import connect
from tests.integration.console.browsing import browsing, logged_in
from tests.integration.ingress.serving import CheckedDoors
from tests.support import eventually


async def test_an_operator_has_the_books_verified_and_sees_what_was_found(
    doors: CheckedDoors,
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    await doors.api.deposit(wallet, "3.00", "EUR")
    books = await connect(doors.database_url, name="test")
    change = "UPDATE wallets SET balance = balance + $2 WHERE id = $1"
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.OPERATOR)

        async def ended() -> bool:
            page = await browser.open("/integrity?look=1")
            return "It has ended." in page

        await browser.open("/integrity")
        assert "No check has found anything." in browser.text
        await browser.send("/integrity")
        assert "It is asked for." in browser.text
        assert "Verify the whole book" not in browser.text
        await eventually(ended, what="the books are verified")
        assert "Every check holds." in browser.text
        assert "Verify the whole book" in browser.text

        await books.execute(change, UUID(wallet), 1)
        await browser.send("/integrity")
        await eventually(ended, what="they are verified again")
        await books.execute(change, UUID(wallet), -1)
        assert "It has found " in browser.text
        assert f"wallet {wallet}" in browser.text
        assert "wallet balance" in browser.text
        assert "not by the last verification" not in browser.text

        await browser.send("/integrity")
        await eventually(ended, what="they are verified once more")
        assert "Every check holds." in browser.text
        assert "not by the last verification" in browser.text
    await books.close()


async def test_auditors_look_and_customers_do_not(doors: CheckedDoors) -> None:
    async with browsing(doors) as auditor, browsing(doors) as customer:
        await logged_in(auditor, doors, PersonRole.AUDITOR)
        await auditor.open("/integrity")
        assert auditor.status == 200
        assert "Verify the whole book" not in auditor.text
        await auditor.send("/integrity")
        assert auditor.status == 403
        assert 'role="alert"' in auditor.text
        await logged_in(customer, doors, PersonRole.CUSTOMER)
        await customer.open("/integrity")
        assert customer.status == 403
        assert 'href="/integrity"' not in customer.text
