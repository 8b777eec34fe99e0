//! Processes that are not our children: identity and the watch for their end.
