//! Other people's test suites against our engine, as their users run them: through the host's socket.

mod docker_py;
