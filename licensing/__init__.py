"""Image scan licenses: entitlements, their use, and which image holds one."""
