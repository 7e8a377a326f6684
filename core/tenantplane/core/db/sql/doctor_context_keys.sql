-- Whether the dates may be read: they may since a migration that a younger service needs.
SELECT has_column_privilege('tp.context_key', 'valid_until', 'SELECT') AS readable
