"""When things run: Airflow DAGs that call the command line and hold no logic."""
