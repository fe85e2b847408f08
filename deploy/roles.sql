-- The database roles of the web processes and of the workers, for psql as the owner of the database; may run again.
-- Their rights: manage.py grant_database_roles fundapi_web fundapi_worker.
\getenv web_password WEB_DATABASE_PASSWORD
\getenv worker_password WORKER_DATABASE_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest('{fundapi_web,fundapi_worker}'::text[]) AS roles(name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE fundapi_web PASSWORD :'web_password';
ALTER ROLE fundapi_worker PASSWORD :'worker_password';
