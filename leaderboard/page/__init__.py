"""The leaderboard as one static page: `build.build_page`, `avar-leaderboard page`."""
