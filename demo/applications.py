"""What the sample applications depend on: packages by name and the version that is installed."""

DJANGO_APP = {
    "asgiref": "3.5.0",
    "certifi": "2022.9.24",
    "Django": "3.2.12",
    "gunicorn": "20.1.0",
    "idna": "3.3",
    "Pillow": "9.3.0",
    "psycopg2-binary": "2.9.3",
    "pytz": "2022.1",
    "requests": "2.25.1",
    "sqlparse": "0.4.2",
    "urllib3": "1.26.5",
}

FLASK_APP = {
    "certifi": "2022.9.24",
    "click": "8.1.3",
    "cryptography": "38.0.1",
    "Flask": "2.2.2",
    "itsdangerous": "2.1.2",
    "Jinja2": "3.1.2",
    "MarkupSafe": "2.1.1",
    "PyYAML": "5.3.1",
    "urllib3": "1.26.16",
    "Werkzeug": "2.2.2",
}

NODE_APP = {
    "axios": "0.21.1",
    "body-parser": "1.19.0",
    "braces": "3.0.2",
    "cookie": "0.4.0",
    "express": "4.17.1",
    "follow-redirects": "1.14.0",
    "ip": "1.1.5",
    "json5": "1.0.1",
    "jsonwebtoken": "8.5.1",
    "lodash": "4.17.20",
    "minimist": "1.2.5",
    "moment": "2.29.1",
    "node-fetch": "2.6.1",
    "path-to-regexp": "0.1.7",
    "qs": "6.7.0",
    "request": "2.88.2",
    "request/node_modules/qs": "6.5.2",
    "semver": "5.7.1",
    "send": "0.17.1",
    "serve-static": "1.14.1",
    "tough-cookie": "2.5.0",
    "ws": "7.4.5",
}

SPRING_APP = {
    "com.fasterxml.jackson.core:jackson-databind": "2.13.1",
    "com.google.code.gson:gson": "2.8.6",
    "com.h2database:h2": "1.4.200",
    "commons-io:commons-io": "2.6",
    "org.apache.commons:commons-text": "1.9",
    "org.apache.logging.log4j:log4j-api": "2.14.1",
    "org.apache.logging.log4j:log4j-core": "2.14.1",
    "org.apache.tomcat.embed:tomcat-embed-core": "9.0.58",
    "org.springframework:spring-beans": "5.3.16",
    "org.springframework:spring-webmvc": "5.3.16",
    "org.yaml:snakeyaml": "1.29",
}

GO_APP = {
    "github.com/gin-gonic/gin": "v1.8.1",
    "github.com/golang-jwt/jwt/v4": "v4.5.0",
    "golang.org/x/crypto": "v0.7.0",
    "golang.org/x/net": "v0.8.0",
    "google.golang.org/grpc": "v1.54.0",
    "google.golang.org/protobuf": "v1.30.0",
}
