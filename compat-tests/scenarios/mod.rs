//! The scenarios, one file for each subject.

mod attach;
mod errors;
mod events;
mod exec;
mod limits;
mod logs;
mod run;
mod session;
mod wait;
