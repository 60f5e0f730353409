//! The Linux side, one file for one system service.
