"""``python -m kmesh``."""

from kmesh.cli.main import main

raise SystemExit(main())
