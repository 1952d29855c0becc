//! Creates the tables, and tells whether they are there.

use saga_core::store::StoreError;
use sqlx::{PgConnection, Row as _};

use crate::sql::{LOCK_MIGRATIONS, MIGRATION_TABLE_EXISTS, SCHEMA_EXISTS, render};
use crate::{PostgresStore, error};

const MIGRATE: &str = "migrate";

/// One file of `migrations/`. A released one never changes.
struct Migration {
    version: i32,
    text: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, text: include_str!("../migrations/0001_tables_and_functions.sql") },
    Migration { version: 2, text: include_str!("../migrations/0002_redrive_and_attempts.sql") },
    Migration { version: 3, text: include_str!("../migrations/0003_list_sagas.sql") },
    Migration { version: 4, text: include_str!("../migrations/0004_attempts_of_letters.sql") },
];

const fn latest() -> i32 {
    MIGRATIONS[MIGRATIONS.len() - 1].version
}

impl PostgresStore {
    /// Brings the store's schema up to date: creates it and its tables, or applies what is missing.
    ///
    /// Everything happens in one transaction: after a crash the schema is as it was. Several processes
    /// may do it at once; one does the work and the others wait for it. When nothing is
    /// missing, nothing is written, so that a role which may not create tables can call it as well.
    ///
    /// What was applied is kept in a table of this schema, so the application's own migrations never
    /// meet these. A schema that a newer version has migrated is left as it is: migrations only add
    /// until no version that needs the old shape is left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Configuration`] if the role may not create what is missing, if something else
    /// stands in its place, or if an applied migration is not the one of this version;
    /// [`StoreError::Unavailable`] if the database cannot be reached. Nothing was changed.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let wrong = |problem| error::statement(MIGRATE, problem);
        let mut transaction = self.pool().begin().await.map_err(wrong)?;
        self.lock_and_prepare(&mut transaction).await.map_err(wrong)?;
        let applied = self.applied(&mut transaction).await?;
        for migration in MIGRATIONS.iter().filter(|one| !applied.contains(&one.version)) {
            tracing::info!(schema = %self.schema_name(), version = migration.version, "migrating");
            self.apply(&mut transaction, migration).await.map_err(wrong)?;
        }
        transaction.commit().await.map_err(|problem| error::commit(MIGRATE, problem))?;
        self.mark_checked();
        Ok(())
    }

    /// Checks that all migrations are applied. The store does this by itself before its first call.
    ///
    /// # Errors
    ///
    /// [`StoreError::Configuration`] if they are not, with what to do; [`StoreError::Unavailable`] if
    /// the database cannot be reached.
    pub async fn check(&self) -> Result<(), StoreError> {
        let latest_applied = sqlx::query_scalar(self.sql().latest_migration.clone());
        let answer = self.answered("check", latest_applied.fetch_one(self.pool())).await?;
        let applied: Option<i32> = answer.map_err(|problem| error::statement("check", problem))?;
        let applied = applied.unwrap_or_default();
        if applied < latest() {
            let schema = self.schema_name();
            let reason = format!(
                "schema `{schema}` is at migration {applied} of {}; \
                 call `PostgresStore::migrate` when the program starts",
                latest()
            );
            return Err(StoreError::Configuration { reason });
        }
        self.mark_checked();
        Ok(())
    }

    async fn lock_and_prepare(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let schema = self.schema_name().as_str();
        let exists = async |connection: &mut PgConnection, sql: &'static str| {
            let found = sqlx::query(sql).bind(schema).fetch_optional(connection).await;
            found.map(|row| row.is_some())
        };
        sqlx::query(LOCK_MIGRATIONS).bind(schema).execute(&mut *connection).await?;
        // `if not exists` would ask for the right to create even if nothing has to be.
        if !exists(connection, SCHEMA_EXISTS).await? {
            sqlx::query(self.sql().create_schema.clone()).execute(&mut *connection).await?;
        }
        if !exists(connection, MIGRATION_TABLE_EXISTS).await? {
            let create = sqlx::query(self.sql().create_migration_table.clone());
            create.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Lists the migrations of this version that are applied, after a look at whether they are the same.
    async fn applied(&self, connection: &mut PgConnection) -> Result<Vec<i32>, StoreError> {
        let wrong = |problem| error::statement(MIGRATE, problem);
        let versions: Vec<i32> = MIGRATIONS.iter().map(|one| one.version).collect();
        let texts: Vec<&str> = MIGRATIONS.iter().map(|one| one.text).collect();
        let known = sqlx::query(self.sql().applied_migrations.clone()).bind(versions).bind(texts);
        let rows = known.fetch_all(connection).await.map_err(wrong)?;
        let mut applied = Vec::with_capacity(rows.len());
        for row in rows {
            let version: i32 = row.try_get(0).map_err(wrong)?;
            let same: bool = row.try_get(1).map_err(wrong)?;
            if !same {
                let reason = format!(
                    "migration {version} of schema `{}` is not the one of this version; \
                     use another schema, or the version that made this one",
                    self.schema_name()
                );
                return Err(StoreError::Configuration { reason });
            }
            applied.push(version);
        }
        Ok(applied)
    }

    async fn apply(
        &self,
        connection: &mut PgConnection,
        migration: &Migration,
    ) -> Result<(), sqlx::Error> {
        let text = render(self.schema_name(), migration.text);
        sqlx::raw_sql(text).execute(&mut *connection).await?;
        let mark = sqlx::query(self.sql().mark_migration.clone());
        mark.bind(migration.version).bind(migration.text).execute(&mut *connection).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_in_order() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), MIGRATIONS.len());
        for ((version, file), migration) in (1..).zip(&files).zip(MIGRATIONS) {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with(&format!("{version:04}_")), "{name}");
            assert_eq!(migration.version, version);
            assert_eq!(std::fs::read_to_string(file).unwrap(), migration.text);
        }
    }

    /// Names without the schema would be looked up in whatever the caller's search path is.
    #[test]
    fn what_is_created_is_in_the_schema() {
        for migration in MIGRATIONS {
            for line in migration.text.lines().map(str::trim_start) {
                for what in ["create table ", "create function ", "alter table ", "insert into "] {
                    if let Some(name) = line.strip_prefix(what) {
                        assert!(name.starts_with("{schema}."), "{line}");
                    }
                }
            }
        }
    }
}
