-- One row for each metric. Refreshed when something below it is, so it costs nothing by itself.
USE SCHEMA {{database}}.{{schema}};

CREATE DYNAMIC TABLE IF NOT EXISTS SENSOR_READINGS_NORMALIZED
TARGET_LAG = DOWNSTREAM
WAREHOUSE = {{warehouse}}_TRANSFORM_WH
REFRESH_MODE = INCREMENTAL
WITH ROW ACCESS POLICY TENANT_ISOLATION ON (TENANT_ID)
AS
SELECT
    R.TENANT_ID,
    R.SHARD,
    R.SEQ,
    R.TWIN_KIND,
    R.TWIN_ID,
    R.SENSOR_ID,
    R.SENSOR_TYPE,
    R.LOCATION_ID,
    R.EVENT_TS,
    R.RECEIVED_TS,
    F.KEY::VARCHAR AS METRIC_KEY,
    F.VALUE AS METRIC_VALUE,
    TRY_TO_DOUBLE(F.VALUE::VARCHAR) AS METRIC_NUMBER,
    -- A reading without a score is not a bad one: it is kept, and whoever wants a score says which.
    R.QUALITY_SCORE,
    R.SOURCE_SYSTEM
FROM SENSOR_READINGS_RAW AS R, LATERAL FLATTEN(INPUT => R.PAYLOAD) AS F;
