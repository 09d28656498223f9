"""How long the property tests look: `--hypothesis-profile=long` for a quarter of an hour."""

from hypothesis import settings

settings.register_profile("long", max_examples=1_600, deadline=None, print_blob=True)
