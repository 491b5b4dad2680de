"""What event log and bundles say of days that were lived, for any arms and any source."""
