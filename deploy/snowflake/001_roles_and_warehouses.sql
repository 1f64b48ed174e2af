-- Roles, the service user and the warehouses. Run by a role that may create them (SECURITYADMIN and SYSADMIN, or
-- ACCOUNTADMIN). Everything else belongs to {{role}}_OWNER.

CREATE ROLE IF NOT EXISTS {{role}}_OWNER COMMENT = 'gemba: owns all objects, refreshes dynamic tables, runs tasks';
CREATE ROLE IF NOT EXISTS {{role}}_WRITER COMMENT = 'gemba: what a node may do: append, merge, read its offsets';
CREATE ROLE IF NOT EXISTS {{role}}_ADMIN COMMENT = 'gemba: reads all tenants';
CREATE ROLE IF NOT EXISTS {{role}}_PERSONAL COMMENT = 'gemba: may see personal data (operators) in the clear';
GRANT ROLE {{role}}_OWNER TO ROLE SYSADMIN;
GRANT ROLE {{role}}_WRITER TO ROLE {{role}}_OWNER;
GRANT ROLE {{role}}_ADMIN TO ROLE SYSADMIN;

-- Key pair only: passwords alone are refused by Snowflake for service users. The public key is set when it is made:
--   ALTER USER {{role}}_SERVICE SET RSA_PUBLIC_KEY = '…';      RSA_PUBLIC_KEY_2 is for its rotation.
CREATE USER IF NOT EXISTS {{role}}_SERVICE
    TYPE = SERVICE
    DEFAULT_ROLE = {{role}}_WRITER
    COMMENT = 'gemba: the checkpoint of the nodes';
GRANT ROLE {{role}}_WRITER TO USER {{role}}_SERVICE;

-- A warehouse for each use, so that none waits for another and each has its own bill.

-- Rollups, KPIs and states by MERGE, every 15 minutes: about 1.7 credits a day on XSMALL. History by Snowpipe
-- Streaming needs no warehouse.
CREATE WAREHOUSE IF NOT EXISTS {{warehouse}}_LOAD_WH
    WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
    STATEMENT_TIMEOUT_IN_SECONDS = 600
    COMMENT = 'gemba: checkpoint';

-- Dynamic tables with a lag of 15 minutes: about 1.7 credits a day on XSMALL.
CREATE WAREHOUSE IF NOT EXISTS {{warehouse}}_TRANSFORM_WH
    WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
    STATEMENT_TIMEOUT_IN_SECONDS = 1800
    COMMENT = 'gemba: dynamic tables and tasks';

-- Training of the Cortex models once a week, detection once an hour: about 1 credit a day on SMALL.
CREATE WAREHOUSE IF NOT EXISTS {{warehouse}}_ML_WH
    WAREHOUSE_SIZE = SMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
    STATEMENT_TIMEOUT_IN_SECONDS = 3600
    COMMENT = 'gemba: Cortex anomaly detection and forecasts';

-- People's questions: one credit for each hour in which it runs.
CREATE WAREHOUSE IF NOT EXISTS {{warehouse}}_BI_WH
    WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
    STATEMENT_TIMEOUT_IN_SECONDS = 300
    COMMENT = 'gemba: BI tools';

GRANT USAGE ON WAREHOUSE {{warehouse}}_LOAD_WH TO ROLE {{role}}_WRITER;
GRANT USAGE ON WAREHOUSE {{warehouse}}_LOAD_WH TO ROLE {{role}}_OWNER;
GRANT USAGE ON WAREHOUSE {{warehouse}}_TRANSFORM_WH TO ROLE {{role}}_OWNER;
GRANT USAGE ON WAREHOUSE {{warehouse}}_ML_WH TO ROLE {{role}}_OWNER;
GRANT USAGE ON WAREHOUSE {{warehouse}}_BI_WH TO ROLE {{role}}_ADMIN;

CREATE DATABASE IF NOT EXISTS {{database}} DATA_RETENTION_TIME_IN_DAYS = 7 COMMENT = 'gemba: history of digital twins';
CREATE SCHEMA IF NOT EXISTS {{database}}.{{schema}};
GRANT OWNERSHIP ON DATABASE {{database}} TO ROLE {{role}}_OWNER COPY CURRENT GRANTS;
GRANT OWNERSHIP ON SCHEMA {{database}}.{{schema}} TO ROLE {{role}}_OWNER COPY CURRENT GRANTS;
GRANT USAGE ON DATABASE {{database}} TO ROLE {{role}}_WRITER;
GRANT USAGE ON SCHEMA {{database}}.{{schema}} TO ROLE {{role}}_WRITER;
GRANT USAGE ON DATABASE {{database}} TO ROLE {{role}}_ADMIN;
GRANT USAGE ON SCHEMA {{database}}.{{schema}} TO ROLE {{role}}_ADMIN;
-- What `gemba snowflake apply` has run, by the file's name.
CREATE TABLE IF NOT EXISTS {{database}}.{{schema}}.MIGRATIONS (
    FILE_NAME VARCHAR(100) NOT NULL,
    CHECKSUM VARCHAR(64) NOT NULL,
    APPLIED_TS TIMESTAMP_NTZ(3) NOT NULL
);
GRANT EXECUTE TASK ON ACCOUNT TO ROLE {{role}}_OWNER;
