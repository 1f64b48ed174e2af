-- Who sees which tenant, and who sees people's names. Row access and masking policies need the Enterprise edition.
USE SCHEMA {{database}}.{{schema}};

CREATE TABLE IF NOT EXISTS TENANT_ROLE_MAP (
    TENANT_ID VARCHAR(50) NOT NULL,
    ROLE_NAME VARCHAR(255) NOT NULL
)
COMMENT = 'a role listed here sees this tenant; roles that inherit it do too';

-- IS_ROLE_IN_SESSION follows inheritance, which CURRENT_ROLE does not. A session variable would be the user''s to set.
-- Owner and writer are exempt, else dynamic tables would be refreshed from no rows.
CREATE ROW ACCESS POLICY IF NOT EXISTS TENANT_ISOLATION AS (ROW_TENANT VARCHAR) RETURNS BOOLEAN ->
    IS_ROLE_IN_SESSION('{{role}}_ADMIN')
    OR IS_ROLE_IN_SESSION('{{role}}_OWNER')
    OR IS_ROLE_IN_SESSION('{{role}}_WRITER')
    OR EXISTS (
        SELECT 1
        FROM {{database}}.{{schema}}.TENANT_ROLE_MAP AS MAPPED
        WHERE MAPPED.TENANT_ID = ROW_TENANT AND IS_ROLE_IN_SESSION(MAPPED.ROLE_NAME)
    );

CREATE MASKING POLICY IF NOT EXISTS PERSONAL_TEXT AS (VAL VARCHAR) RETURNS VARCHAR ->
    CASE
        WHEN VAL IS NULL THEN NULL
        WHEN IS_ROLE_IN_SESSION('{{role}}_PERSONAL') OR IS_ROLE_IN_SESSION('{{role}}_OWNER') THEN VAL
        ELSE SHA2(VAL, 256)
    END;

CREATE TAG IF NOT EXISTS PERSONAL_DATA ALLOWED_VALUES 'operator' COMMENT = 'columns that say something of a person';
CREATE TAG IF NOT EXISTS DATA_CLASS ALLOWED_VALUES 'raw', 'computed', 'operations' COMMENT = 'what a table holds';
CREATE TAG IF NOT EXISTS COST_CENTRE COMMENT = 'who pays';
