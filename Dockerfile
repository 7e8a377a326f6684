# One image for every component: `tools/image.sh` lays out the context (packages pinned by
# requirements/image.lock, installed for the base's Python), this file only copies it in.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# initdb asks /etc/passwd who it is; nothing in the image can be written by this user.
RUN echo 'tenantplane:x:65532:65532::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'tenantplane:x:65532:' >> /etc/group

# Named in a .pth file, not in PYTHONPATH: the process that reads documents has no environment.
RUN python3 -c "import pathlib, site; folder = pathlib.Path(site.getsitepackages()[0]); \
folder.mkdir(parents=True, exist_ok=True); (folder / 'tenantplane.pth').write_text('/opt/tenantplane\n')"
COPY site /opt/tenantplane
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532

# One entry point per component:
#   tenantplane.operator.main · tenantplane.controlplane.main · tenantplane.dataplane.main
#   tenantplane.core.db.embedded · tenantplane.core.valkey.embedded · tenantplane.cli.main
ENTRYPOINT ["python3", "-m"]
CMD ["tenantplane.cli.main", "--help"]
