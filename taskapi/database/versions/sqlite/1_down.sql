DROP TABLE user_tasks

DROP TABLE user_tasks_revision
