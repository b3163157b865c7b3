"""Files elsewhere: https with our own client, S3 and SFTP through fsspec; read as if they were here.

`options` is what the configuration says, `remote_file` what `syncd.files` reads; `web`, `shelf` with `bucket` or `sftp` are the places,
`intake` the limits. The libraries of the extra `remote` are imported by the first use of S3 or SFTP.
"""
