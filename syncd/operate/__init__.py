"""The operator's acts beside the road: set-up, holds, retirement, matchers, backup, repair, the audit log."""
