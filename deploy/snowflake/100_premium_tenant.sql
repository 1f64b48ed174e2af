-- A schema of its own for the premium tenant {{tenant}}: its views see its rows only, whatever a policy says, and its
-- role sees nothing else.
CREATE ROLE IF NOT EXISTS {{role}}_TENANT_{{tenant_upper}};
CREATE SCHEMA IF NOT EXISTS {{database}}.TENANT_{{tenant_upper}};
USE SCHEMA {{database}}.TENANT_{{tenant_upper}};

CREATE WAREHOUSE IF NOT EXISTS {{warehouse}}_{{tenant_upper}}_WH
    WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
    COMMENT = 'gemba: premium tenant; one credit for each hour in which it runs';

CREATE SECURE VIEW IF NOT EXISTS SENSOR_READINGS AS
SELECT * FROM {{database}}.{{schema}}.SENSOR_READINGS_NORMALIZED WHERE TENANT_ID = '{{tenant}}';
CREATE SECURE VIEW IF NOT EXISTS JOB_TRACKING AS
SELECT * FROM {{database}}.{{schema}}.JOB_TRACKING WHERE TENANT_ID = '{{tenant}}';
CREATE SECURE VIEW IF NOT EXISTS MACHINE_UTILIZATION_HOURLY AS
SELECT * FROM {{database}}.{{schema}}.MACHINE_UTILIZATION_HOURLY WHERE TENANT_ID = '{{tenant}}';
CREATE SECURE VIEW IF NOT EXISTS AIR_QUALITY_CURRENT AS
SELECT * FROM {{database}}.{{schema}}.AIR_QUALITY_CURRENT WHERE TENANT_ID = '{{tenant}}';
CREATE SECURE VIEW IF NOT EXISTS PRODUCTION_FLOW_ANALYSIS AS
SELECT * FROM {{database}}.{{schema}}.PRODUCTION_FLOW_ANALYSIS WHERE TENANT_ID = '{{tenant}}';

INSERT INTO {{database}}.{{schema}}.TENANT_ROLE_MAP (TENANT_ID, ROLE_NAME)
SELECT '{{tenant}}', '{{role}}_TENANT_{{tenant_upper}}'
WHERE NOT EXISTS (
    SELECT 1
    FROM {{database}}.{{schema}}.TENANT_ROLE_MAP
    WHERE TENANT_ID = '{{tenant}}' AND ROLE_NAME = '{{role}}_TENANT_{{tenant_upper}}'
);
GRANT USAGE ON DATABASE {{database}} TO ROLE {{role}}_TENANT_{{tenant_upper}};
GRANT USAGE ON SCHEMA {{database}}.TENANT_{{tenant_upper}} TO ROLE {{role}}_TENANT_{{tenant_upper}};
GRANT SELECT ON ALL VIEWS IN SCHEMA {{database}}.TENANT_{{tenant_upper}} TO ROLE {{role}}_TENANT_{{tenant_upper}};
GRANT USAGE ON WAREHOUSE {{warehouse}}_{{tenant_upper}}_WH TO ROLE {{role}}_TENANT_{{tenant_upper}};
