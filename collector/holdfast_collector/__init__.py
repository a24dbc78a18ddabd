"""The collector: messages of the whole fleet in, verdicts, metrics and pages out. See collector/README.md.

`core`   decides, purely            `app`     puts the parts together and runs them
`ingest` hears, `store` remembers, `notifiers` tell, `web` and `exposition` show
"""
