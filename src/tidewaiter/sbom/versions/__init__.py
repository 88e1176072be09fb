"""Version orders of package ecosystems: pure functions, shared by resolvers and the advisory matcher."""
