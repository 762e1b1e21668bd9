"""What this package raises: one base class, so that a caller can catch everything at once."""


class FnetError(ValueError):
    """Wrong input or configuration; the message names the argument and what would be right."""


class CaptureError(FnetError):
    """The probe cannot run: no layer matches, a hook never fires, or the inputs cannot be found."""


class RecordError(FnetError):
    """A record on disk cannot be read: another version, a damaged file, or one that is too large."""


class FnetWarning(UserWarning):
    """Something was left out or degraded; the run goes on."""
