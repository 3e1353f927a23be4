"use strict";
equipTables();
equipCopying();
