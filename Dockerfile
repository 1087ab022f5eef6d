# mappo with torch's CPU build, and mpe2 for the score at the end.
#
#   docker build -t mappo .
#   docker run --init -v "$PWD/runs:/data/runs" mappo train spread
#   docker run --init -v "$PWD/runs:/data/runs" mappo evaluate runs/spread-1 --on mpe2
#
# More environments: docker build --build-arg EXTRAS=mpe,lbf,rware -t mappo .

FROM python:3.13-slim
ARG EXTRAS=mpe
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /mappo
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY src src
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"
WORKDIR /data
ENTRYPOINT ["mappo"]
CMD ["train", "spread"]
