"""Settling one list's next publication, by what asks for it: an update, a hold, a correction, a rollback."""
