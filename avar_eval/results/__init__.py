"""What a run found: `results.json` (`schema`), its metrics, its tables, and two runs compared."""
