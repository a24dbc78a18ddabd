"""When an identity is another one."""

import pytest

from holdfast_collector.core.survival import changed

UUID = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
SWAPPED = "a4b8aa02-ef74-6e47-8182-f6d2ba4166a6"


@pytest.mark.parametrize(
    ("before", "after", "other"),
    [
        (UUID, UUID, False),
        (UUID, SWAPPED, False),
        (SWAPPED, UUID, False),
        (UUID, SWAPPED.replace("ba4166a6", "ba4166a7"), True),
        (UUID, UUID.replace("8182", "8281"), True),
        (UUID, "i-0abc1234def567890", True),
        ("i-0abc1234def567890", "i-0abc1234def567891", True),
        ("", UUID, False),
        (UUID, "", False),
    ],
)
def test_a_uuid_in_the_other_byte_order_is_the_same_machine(before: str, after: str, other: bool) -> None:
    """A host with newer firmware tells the same `product_uuid` otherwise: nobody is to be told of a clone."""
    assert changed(before, after) is other
