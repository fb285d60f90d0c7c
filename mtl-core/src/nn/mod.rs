//! Functional layers: functions of a parameter source, a name and an input.
