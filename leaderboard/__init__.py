"""The leaderboard: a store of finished runs (`store`), its tables (`table`) and `avar-leaderboard` (`cli`)."""
