//! HTTP API, database and boot configuration of the Gravure server.
