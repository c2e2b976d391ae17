"""Campaigns: whatever strangers can send or plant, thrown at the code that reads it, thousands of times.

One file per subject; each function is one campaign. In CI there are 5,000 examples in each, seeded by the commit;
elsewhere a tenth, drawn anew each time. What a campaign found is pinned above it as an `@example`.
"""
