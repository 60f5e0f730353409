//! RAUC: absent, scripted, and the real service where it is installed.
