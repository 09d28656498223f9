"""What comes after a restore: WAL of a new timeline, and restores that stay on one branch."""

from pathlib import Path

import pytest

from tests.integration.backups.ground import Ground

pytestmark = pytest.mark.long


async def test_following_goes_on_after_a_restore_to_a_moment_and_latest_is_the_new_timeline(
    ground: Ground,
) -> None:
    follower = await ground.follow()
    await ground.back_up()
    moment = await ground.write("before")
    await ground.write("abandoned")
    await ground.saved()
    await ground.destroy()

    assert (await ground.restore(moment))["timeline"] == 1
    assert await ground.notes() == {"before"}
    await ground.write("after")
    await ground.saved()
    await ground.destroy()

    assert (await ground.restore("latest"))["timeline"] == 2
    assert await ground.notes() == {"before", "after"}
    said = await ground.stop_following(follower)
    assert said.code == 0
    assert "takes the WAL of timeline 2" in said.err


async def test_following_that_is_started_only_after_a_restore_leaves_no_gap(
    ground: Ground,
) -> None:
    await ground.stop_following(await ground.follow())
    await ground.back_up()
    follower = await ground.follow()
    moment = await ground.write("before")
    await ground.write("abandoned")
    await ground.fill_segments(3)
    await ground.saved()
    await ground.stop_following(follower)
    await ground.destroy()

    await ground.restore(moment)
    await ground.write("unfollowed")
    await ground.fill_segments(1)
    await ground.stop_following(await ground.follow())
    follower = await ground.follow()
    await ground.write("followed")
    await ground.saved()
    await ground.destroy()

    assert (await ground.restore("latest"))["timeline"] == 2
    assert await ground.notes() == {"before", "unfollowed", "followed"}


async def test_base_of_an_abandoned_branch_is_never_used_for_the_current_line(
    ground: Ground,
) -> None:
    await ground.follow()
    first = await ground.back_up()
    moment = await ground.write("before")
    await ground.write("abandoned")
    abandoned = await ground.back_up()
    beyond = await ground.write("abandoned too")
    await ground.write("abandoned last")
    await ground.saved()
    await ground.destroy()

    await ground.restore(moment)
    after = await ground.write("after")
    await ground.write("later")
    await ground.saved()
    await ground.destroy()

    for to, notes in (
        ("latest", {"before", "after", "later"}),
        (after, {"before", "after"}),
    ):
        printed = await ground.restore(to)
        assert Path(printed["base"]["path"]) == first
        assert await ground.notes() == notes
        await ground.destroy()

    printed = await ground.restore(beyond, "--timeline", "1")
    assert Path(printed["base"]["path"]) == abandoned
    assert await ground.notes() == {"before", "abandoned", "abandoned too"}


async def test_restore_to_a_moment_before_an_earlier_restore_leaves_its_timeline_out(
    ground: Ground,
) -> None:
    await ground.follow()
    await ground.back_up()
    first = await ground.write("one")
    second = await ground.write("two")
    await ground.write("three")
    await ground.saved()
    await ground.destroy()
    await ground.restore(second)
    await ground.write("on the second timeline")
    await ground.saved()
    await ground.destroy()

    assert (await ground.restore(first))["timeline"] == 1
    assert await ground.notes() == {"one"}
    await ground.write("on the third timeline")
    await ground.saved()
    await ground.destroy()

    assert (await ground.restore("latest"))["timeline"] == 3
    assert await ground.notes() == {"one", "on the third timeline"}


async def test_base_of_a_restored_server_can_be_restored(ground: Ground) -> None:
    await ground.follow()
    await ground.back_up()
    moment = await ground.write("before")
    await ground.write("abandoned")
    await ground.saved()
    await ground.destroy()
    await ground.restore(moment)
    await ground.write("after")
    base = await ground.back_up()
    await ground.write("later")
    await ground.saved()
    await ground.destroy()

    printed = await ground.restore("latest")
    assert (Path(printed["base"]["path"]), printed["timeline"]) == (base, 2)
    assert await ground.notes() == {"before", "after", "later"}


async def test_restore_says_why_there_is_no_base_for_it(ground: Ground) -> None:
    await ground.follow()
    too_early = await ground.write("before")
    base = await ground.back_up()
    moment = await ground.write("more")
    await ground.write("abandoned")
    later = await ground.back_up()
    await ground.saved()
    await ground.destroy()
    refused = await ground.try_restore(too_early)
    assert refused.code == 1
    assert "no base of timeline 1 ended by then; the earliest moment is" in refused.err

    await ground.restore(moment)
    await ground.write("after")
    await ground.saved()
    await ground.destroy()
    ground.remove_base(base)
    refused = await ground.try_restore("latest")
    assert refused.code == 1
    assert "no base leads to timeline 2" in refused.err
    refused = await ground.try_restore("latest", "--timeline", "7")
    assert refused.code == 1
    assert "timeline 7 is not known: there are 1, 2" in refused.err
    assert later.exists()


async def test_keep_counts_the_bases_of_the_current_line(ground: Ground) -> None:
    await ground.follow()
    first = await ground.back_up()
    moment = await ground.write("before")
    await ground.write("abandoned")
    abandoned = await ground.back_up()
    await ground.saved()
    await ground.destroy()
    await ground.restore(moment)

    second = await ground.back_up("--keep", "2")
    assert first.exists()
    assert abandoned.exists()
    third = await ground.back_up("--keep", "2")
    assert [one.exists() for one in (first, abandoned, second, third)] == [
        False,
        False,
        True,
        True,
    ]
    await ground.write("after")
    await ground.saved()
    await ground.destroy()
    await ground.restore("latest")
    assert await ground.notes() == {"before", "after"}


async def test_gap_in_the_wal_is_said_and_following_goes_on(ground: Ground) -> None:
    follower = await ground.follow()
    await ground.back_up()
    await ground.write("before")
    await ground.saved()
    await ground.stop_following(follower)
    await ground.execute("SELECT pg_drop_replication_slot('ackledger_backup')")
    await ground.write("in the gap")
    await ground.fill_segments(3)
    await ground.execute("CHECKPOINT")
    await ground.fill_segments(1)
    await ground.execute("CHECKPOINT")

    follower = await ground.follow()
    await ground.write("after")
    await ground.saved()
    said = await ground.stop_following(follower)
    assert "take one now: ackledger backup" in said.err
    follower = await ground.follow()
    await ground.destroy()
    restored = await ground.restoring("latest")
    assert "was not taken: nothing from there on is restored" in restored.err
    assert "before" in await ground.notes()
    assert "after" not in await ground.notes()


async def test_another_servers_wal_is_never_taken_into_the_folder(
    ground: Ground, other: Ground
) -> None:
    await ground.stop_following(await ground.follow())
    other.backups = ground.backups
    for arguments in (("backup",), ("backup", "--follow")):
        refused = await other.call(*arguments)
        assert refused.code == 1
        assert "holds back-ups of another server" in refused.err
