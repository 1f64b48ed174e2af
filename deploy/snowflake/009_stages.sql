-- Where Parquet files of a node's history may be put to fill the tables for a time before the checkpoint began. The
-- same files read here as they do in DuckDB and Polars.
USE SCHEMA {{database}}.{{schema}};

CREATE FILE FORMAT IF NOT EXISTS PARQUET_HISTORY TYPE = PARQUET USE_LOGICAL_TYPE = TRUE;
CREATE STAGE IF NOT EXISTS HISTORY_FILES
    ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')
    DIRECTORY = (ENABLE = TRUE)
    FILE_FORMAT = (FORMAT_NAME = 'PARQUET_HISTORY')
    COMMENT = 'history/ of a data folder, put by an operator';
GRANT READ, WRITE ON STAGE HISTORY_FILES TO ROLE {{role}}_OWNER;
