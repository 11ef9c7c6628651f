"""``python -m stops``, in the folder ``tests``."""

from stops.run import main

raise SystemExit(main())
